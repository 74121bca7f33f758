"""genalloy.recipes"""
