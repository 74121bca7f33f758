"""genalloy.objectives"""
