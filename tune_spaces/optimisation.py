"""How the student is trained: rates, their schedule, batch, average, and what is done to its training images."""

from ray import tune

SPACE = {
    "optim.learning_rate": tune.loguniform(2e-5, 2e-3),
    "optim.fast_learning_rate": tune.loguniform(4e-5, 4e-3),
    "optim.schedule": tune.choice(["step", "cosine", "constant"]),
    "optim.batch_size": tune.choice([32, 64, 128]),
    "optim.ema_decay": tune.choice([0.0, 0.99, 0.999]),
    "data.train_degradation": tune.choice(["published", "camera", "mixed", "none"]),
}
