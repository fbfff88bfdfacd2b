"""The pocket zoo: narrow networks of four architectures, trained by this project on images it draws itself.

`shapes` draws the images, `networks` holds the architectures, `training` the recipe. Cards lie in ``model_zoo/pocket``,
weights in ``data/pocket_zoo``.
"""
