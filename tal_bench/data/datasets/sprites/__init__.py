"""`sprites`: the embedded dataset, rendered, cached and featurised on the person's own machine.

Short videos of moving sprites, made so that the question the suite asks has an answer in minutes: what an
action *is* shows in appearance and motion together, motion reads well from optical flow and only partly
from RGB snippets. ``prepare.prepare`` makes the feature files; ``scene`` says what happens in a video,
``render`` draws it, ``pretrain`` makes the two small networks that are shipped with the package.
"""
