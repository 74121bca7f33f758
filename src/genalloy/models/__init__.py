"""genalloy.models"""
