"""genalloy.core"""
