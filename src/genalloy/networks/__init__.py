"""genalloy.networks"""
