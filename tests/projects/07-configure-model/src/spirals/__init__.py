from .data import Spirals
from .module import SpiralNet

__all__ = ["SpiralNet", "Spirals"]
