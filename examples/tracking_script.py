"""The two largest eigenvalues of the Hessian on a fixed sample, while a model of your own trains."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import EigenTracker


@dataclass
class StepContext:
    """What a tracker looks at: the model just before a step."""

    step: int
    model: nn.Module
    optimizer: torch.optim.Optimizer


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
inputs, targets = torch.randn(200, 8), torch.randint(0, 3, (200,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

tracker, memory = EigenTracker(cross_entropy, (inputs[:100], targets[:100]), steps=range(60)), None
for step in range(60):
    context = StepContext(step, model, optimizer)
    if tracker.is_due(context):  # the model is left exactly as found
        memory, seen = tracker.observe(context, memory)
        if step % 20 == 0:
            verdict = "verified" if seen["verified"] else "tracked"
            print(
                f"step {step}: {seen['lambda_1']:.4f}, {seen['lambda_2']:.4f}, {seen['verdict']}, {verdict}"
            )
    batch = torch.randperm(200)[:20]
    optimizer.zero_grad()
    torch.autograd.backward(cross_entropy(model(inputs[batch]), targets[batch]))
    optimizer.step()
