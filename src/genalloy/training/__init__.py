"""genalloy.training"""
