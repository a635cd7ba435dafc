"""Replaces the hook of PyInstaller's collection, which takes what boto3 has for S3, DynamoDB and EC2, and models."""
