"""genalloy.studies"""
