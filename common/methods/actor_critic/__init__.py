"""Methods that learn policies from transitions, online or logged, and the module that trains them."""

from common.methods.actor_critic.bc import BC
from common.methods.actor_critic.iql import IQL
from common.methods.actor_critic.learner import Learner, LearnerModule
from common.methods.actor_critic.on_policy import OnPolicy
from common.methods.actor_critic.sac import SAC
from common.methods.actor_critic.td3_bc import TD3BC

__all__ = ["BC", "IQL", "SAC", "TD3BC", "Learner", "LearnerModule", "OnPolicy"]
