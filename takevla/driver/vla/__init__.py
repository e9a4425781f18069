"""driver/vla"""
