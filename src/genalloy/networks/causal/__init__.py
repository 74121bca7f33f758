"""genalloy.networks.causal"""
