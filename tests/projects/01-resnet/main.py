from data import Digits
from lightning.pytorch.cli import LightningCLI
from resnet import ResNet

if __name__ == "__main__":
    LightningCLI(ResNet, Digits)
