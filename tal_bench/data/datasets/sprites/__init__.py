"""The dataset `sprites`, which is rendered, cached and converted to features on the user's machine.

Short videos of moving sprites, designed such that a study takes minutes: an action is defined by appearance
and motion together; motion can be read well from optical flow, and only partly from RGB snippets.
``prepare.prepare`` writes the feature files, ``scene`` plans the content of a video, ``render`` draws it, and
``pretrain`` trains the two small networks that are shipped with the package.
"""
