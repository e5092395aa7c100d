"""Training only: what turns bars and features into a bundle. Nothing here is imported while serving."""
