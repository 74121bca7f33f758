"""genalloy.experiments"""
