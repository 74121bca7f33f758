"""genalloy.solvers"""
