"""genalloy.mcmc"""
