"""Graph-less Neural Networks (Zhang, Liu, Sun, Shah; arXiv 2110.08727).

A perceptron on a node's own features learns a graph network's soft labels of all observed nodes V:

    L = lambda / |V_L| sum_{i in V_L} CE(y_i, p_i) + (1 - lambda) / |V| sum_{i in V} KL(z_i || p_i)

| symbol | code             | meaning                                             |
|--------|------------------|-----------------------------------------------------|
| p      | `student_logits` | the perceptron's class probabilities, as logits     |
| z      | `teacher_logits` | the graph network's soft labels, as logits          |
| V_L    | `labelled`       | labelled nodes                                      |
| lambda | `label_weight`   | weight of the labels, 0 in the paper's tables       |

As released, the terms are no sum: each epoch first passes over the labelled nodes with the first term, then over all
observed ones with the second, an optimiser step a batch. `data.batch_size` chooses that; without it the terms are
summed. Other papers compare themselves with this one, so the code lives in `common`.
"""

from common.losses.glnn import glnn_loss
from common.methods.glnn import GLNN

__all__ = ["GLNN", "glnn_loss"]
