"""Models of other frameworks as a `Model`: one file each, imported only when such a model comes."""
