"""Pictures of gradient descent, by scikit-learn's Display convention (extra: ``fastgd[plot]``).

    LossCurveDisplay      objective and validation score of fitted estimators, iteration by iteration
    LearningRateDisplay   what a search over learning rates found, and where descent diverges
    DescentPathDisplay    the landscape of two parameters, and the paths of descents through it

Each is made by a classmethod ``from_...``, which draws at once; `plot` draws again from what is stored.
"""

from ._displays._descent_path import DescentPathDisplay
from ._displays._learning_rate import LearningRateDisplay
from ._displays._loss_curve import LossCurveDisplay

__all__ = ["DescentPathDisplay", "LearningRateDisplay", "LossCurveDisplay"]
