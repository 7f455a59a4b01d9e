"""What pyproject.toml cannot say: every package is found, and the study definitions ship as one of them."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tal_bench*"]), "tal_bench.ablations"],
    package_dir={"tal_bench.ablations": "ablations"},
)
