"""takeover"""
