"""genalloy.evaluation"""
