"""world/maps"""
