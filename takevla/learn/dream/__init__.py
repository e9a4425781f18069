"""learn/dream"""
