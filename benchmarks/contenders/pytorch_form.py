"""PyTorch as anyone would write it: modules, autograd, torch.optim.Adam; on the GPU if there is one."""

import torch

from benchmarks.contenders import BETA, PRODUCTS, RHO, WEIGHT_DECAY, batches, initial_weights, median_epoch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISIONS = {"float32": "highest", "tensorfloat32": "high", "bfloat16": "medium"}


class Autoencoder(torch.nn.Module):
    def __init__(self, features, units):
        super().__init__()
        self.hidden, self.output = torch.nn.Linear(features, units), torch.nn.Linear(units, features)
        w1, b1, w2, b2 = map(torch.from_numpy, initial_weights(features, units))
        self.load_state_dict({"hidden.weight": w1.T, "hidden.bias": b1, "output.weight": w2.T, "output.bias": b2})

    def forward(self, x):
        """Return J of x."""
        a = torch.sigmoid(self.hidden(x))
        xhat, rho_hat = torch.sigmoid(self.output(a)), a.mean(0)
        kl = RHO * torch.log(RHO / rho_hat) + (1 - RHO) * torch.log((1 - RHO) / (1 - rho_hat))
        decay = self.hidden.weight.square().sum() + self.output.weight.square().sum()
        return 0.5 * (xhat - x).square().sum(1).mean() + WEIGHT_DECAY / 2 * decay + BETA * kl.sum()


def _prepare(x, units, precision, compiled):
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    model = Autoencoder(x.shape[1], units).to(DEVICE)
    return model, torch.compile(model) if compiled else model, torch.from_numpy(x).to(DEVICE)


def objective(x, units, precision="float32", compiled=False):
    model, forward, x = _prepare(x, units, precision, compiled)

    def run():
        model.zero_grad()
        value = forward(x)
        value.backward()
        return value.item()  # waits for the device

    return run


def epoch(x, units, batch_size, precision="float32", compiled=False):
    model, forward, x = _prepare(x, units, precision, compiled)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def one():
        total = torch.zeros((), device=DEVICE)
        for rows in batches(len(x), batch_size):
            optimizer.zero_grad()
            loss = forward(x[torch.from_numpy(rows).to(DEVICE)])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()

    return lambda: median_epoch(one)


def product(rows, features, units, precision="float32"):
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    x, w = torch.randn(rows, features, device=DEVICE), torch.randn(features, units, device=DEVICE)

    def run():
        for _ in range(PRODUCTS):
            result = x @ w
        result[0, 0].item()

    return run
