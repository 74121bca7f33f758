"""genalloy.samplers"""
