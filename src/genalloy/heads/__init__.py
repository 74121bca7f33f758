"""genalloy.heads"""
