"""Why a model answers as it does: a clip and a class in, the heat of each patch out."""
