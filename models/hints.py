"""What a network learns of its teachers' states, beside what they say: hints, used in training only.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550; by the cosine, as in DistilBERT (Sanh et al.
2019, arXiv:1910.01108). B posts, S width of the network's states, K teachers, D width of theirs.
"""

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity


class Hints(nn.Module):
    """A linear map from the network's states to those of its teachers, trained with it and thrown away afterwards."""

    def __init__(self, width: int, n_teachers: int, taught_width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, n_teachers * taught_width)

    def forward(self, states: Tensor, taught: Tensor) -> Tensor:
        """Cosine distances (B,) between `states` (B, S), mapped, and `taught` (B, K, D): the mean over the teachers.

        D is the widest teacher's width; the states of others end in zeros. 0 where a post has no hint: zeros alone.
        """
        mapped = self.map(states).unflatten(1, taught.shape[1:])  # (B, K, D)
        distances = (1 - cosine_similarity(mapped, taught, dim=2)).mean(dim=1)  # (B,)
        hinted: Tensor = distances * taught.flatten(1).any(dim=1)
        return hinted
