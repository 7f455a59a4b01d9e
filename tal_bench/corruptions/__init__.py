"""What can happen to a video between the camera and the detector, and features of what is left.

``pixels`` and ``features`` declare corruptions in the registry of ``registry``; ``places`` says which frames
are hit; ``frames`` corrupts a stream of frames; ``extract`` makes the features that change, on the same path
as those of the dataset; ``store`` keeps them in the user's cache.
"""
