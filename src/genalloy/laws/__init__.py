"""genalloy.laws"""
