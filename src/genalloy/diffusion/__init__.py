"""genalloy.diffusion"""
