"""genalloy.transforms"""
