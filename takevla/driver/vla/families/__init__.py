"""driver/vla/families: how each family of image-text-to-text models takes its picture"""
