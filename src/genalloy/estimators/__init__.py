"""genalloy.estimators"""
