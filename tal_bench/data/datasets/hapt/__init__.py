"""The dataset `hapt`: activities and postural transitions, from a smartphone's accelerometer and gyroscope.

Inertial signals, not video; untrimmed recordings of real people with two modalities, of which one can be
switched off. Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra and Davide Anguita,
"Transition-aware human activity recognition using smartphones", Neurocomputing 171 (2016). The recordings
are not shipped: ``prepare.prepare`` reads them from their original files (``text``) or from an installed
package (``package``) and writes features (``features``).
"""
