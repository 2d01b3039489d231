"""Herding against closed forms, cases by hand and autograd; dyadic numbers make sums, and so equality, exact."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from snnbench import BackendError, ParameterError
from snnbench.kernels import herding, herding_forward, herding_learn, relu_learn, split_weights
from snnbench.kernels.herding import MOST_SPIKES, cpu

both = pytest.mark.parametrize("backend", ["ref", "cpu"])
streams = st.lists(st.integers(-80, 80).map(lambda k: k / 32), min_size=1, max_size=24)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def flat(*matrices):
    """The weights of all layers from those of each, ``[n_in][n_out]``."""
    return torch.cat([tensor(matrix).flatten() for matrix in matrices])


def constant(values, n_steps):
    """The same input in every step, ``[T, B, n]``."""
    return tensor(values).expand(n_steps, -1, -1)


def network(sizes, *, seed=0, scale=1.0, dtype=torch.float64):
    """Weights of a random network whose layers keep the size of activations."""
    generator = torch.Generator().manual_seed(seed)
    shapes = itertools.pairwise(sizes)
    return torch.cat(
        [scale * n_in**-0.5 * torch.randn(n_in * n_out, generator=generator, dtype=dtype) for n_in, n_out in shapes]
    )


def samples(n, size, *, seed=0, dtype=torch.float64):
    """Values in [0, 1], a third of them 0, and classes of 4."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(n, size, generator=generator, dtype=dtype)
    return values * (torch.rand(n, size, generator=generator) > 1 / 3), torch.randint(0, 4, (n,), generator=generator)


def relu_loss(inputs, labels, weights, sizes):
    """The loss of the ReLU network, the sum over samples, as autograd can differentiate it."""
    for matrix in split_weights(weights, sizes):
        inputs = (inputs @ matrix).relu()
    return 0.5 * (inputs - functional.one_hot(labels, sizes[-1])).square().sum()


def relu_gradient(inputs, labels, weights, sizes):
    weights = weights.clone().requires_grad_()
    return torch.autograd.grad(relu_loss(inputs, labels, weights, sizes), weights)[0]


# --- quantisers ------------------------------------------------------------------------------------------------------


@both
@settings(max_examples=50)
@given(stream=streams)
def test_signed_spikes_stay_within_a_half_of_what_came_in(backend, stream):
    x = tensor(stream)[:, None, None]
    assert (herding(x, backend=backend).cumsum(0) - x.cumsum(0)).abs().max() <= 0.5


@both
@settings(max_examples=50)
@given(stream=streams)
def test_rectified_spikes_are_the_running_maximum(backend, stream):
    x = tensor(stream)[:, None, None]
    expected = (x.cumsum(0) - 0.5).ceil().cummax(0).values.clamp(min=0)
    assert torch.equal(herding(x, rectified=True, backend=backend).cumsum(0), expected)


@both
@pytest.mark.parametrize(
    ("stream", "signed", "rectified"),
    [
        ([0.5, 0.25], [0, 1], [0, 1]),  # 1/2 is not above 1/2
        ([-0.5, -0.25], [0, -1], [0, 0]),
        ([2.25, 0, 0.5], [2, 0, 1], [2, 0, 1]),
        ([1.0, -1.0, 1.0], [1, -1, 1], [1, 0, 0]),  # what was emitted cannot be recalled
        ([-1.0, 1.0, 1.0], [-1, 1, 1], [0, 0, 1]),
    ],
)
def test_hand_worked_streams(backend, stream, signed, rectified):
    x = tensor(stream)[:, None, None]
    assert herding(x, backend=backend).flatten().tolist() == signed
    assert herding(x, rectified=True, backend=backend).flatten().tolist() == rectified


def test_spikes_carry_no_gradient():
    assert not herding(torch.ones(2, 1, 1, requires_grad=True)).requires_grad


# --- forward ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("x", "weights", "hidden"),
    [
        ([0.75, 1.0], [[-1.0], [1.0]], 1),  # the second first, its spike is gone before the first is taken back
        ([1.0, 0.75], [[-1.0], [1.0]], 0),
        ([0.75, 0.75], [[1.0], [-1.0]], 1),  # equals: the lower index first
        ([0.75, -1.0], [[1.0], [-1.0]], 2),  # a negative spike subtracts
        ([2.25, 1.5], [[0.375], [-0.75]], 0),  # first, second, first: 2.25, 1.5 and 1.25
    ],
)
def test_the_largest_potential_goes_first(backend, x, weights, hidden):
    run = herding_forward(constant([x], 1), flat(weights, [[0.5]]), (2, 1, 1), backend=backend)
    assert run.counts[1].item() == hidden
    assert run.currents.item() == hidden * 0.5


@both
def test_layers_count_what_their_partial_sums_say(backend):
    sizes, n_steps = (20, 15, 3), 8
    weights = (network(sizes, scale=2) * 64).round() / 64
    x = (samples(3, 20)[0] * 96 - 32).round() / 64
    run = herding_forward(x.expand(n_steps, 3, 20), weights, sizes, backend=backend)
    first, last = split_weights(weights, sizes)
    assert run.counts[1].sum() > 50
    for sample in range(3):
        potential, rows, expected = torch.zeros(20, dtype=torch.float64), [torch.zeros_like(first[:1])], []
        for _ in range(n_steps):
            potential += x[sample]
            # inputs up to 1: at most one spike each
            fired = [
                i for i in potential.abs().argsort(descending=True, stable=True).tolist() if abs(potential[i]) > 0.5
            ]
            for i in fired:
                rows.append(first[i : i + 1] * potential[i].sign())
                potential[i] -= potential[i].sign()
            expected.append((torch.cat(rows).cumsum(0) - 0.5).ceil().amax(0).clamp(min=0))
        assert torch.equal(run.counts[1][:, sample].cumsum(0), torch.stack(expected))
    assert torch.equal(run.counts[0], herding(x.expand(n_steps, 3, 20), backend=backend))
    assert torch.equal(run.currents, run.counts[1] @ last)


def test_the_estimate_approaches_the_output_of_the_relu_network_with_the_steps():
    sizes, n_steps = (12, 20, 20, 4), 4096
    weights, (x, _) = network(sizes, scale=1.5), samples(10, 12)
    currents = herding_forward(x.expand(n_steps, 10, 12), weights, sizes, backend="cpu").currents
    first, second, last = split_weights(weights, sizes)
    expected = ((x @ first).relu() @ second).relu() @ last
    errors = [float((currents[:t].mean(0) - expected).abs().max()) for t in (16, 256, 4096)]
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4
    assert errors[2] < 0.02


@both
def test_a_sample_alone_is_as_among_others_and_a_view_as_its_copy(backend):
    sizes, weights, (x, _) = (9, 8, 4), network((9, 8, 4), scale=2), samples(4, 9)
    together = herding_forward(x.expand(6, 4, 9), weights, sizes, backend=backend)
    copied = herding_forward(x.expand(6, 4, 9).contiguous(), weights, sizes, backend=backend)
    alone = [herding_forward(x[i : i + 1].expand(6, 1, 9), weights, sizes, backend=backend) for i in range(4)]
    for layer in range(2):
        assert torch.equal(together.counts[layer], copied.counts[layer])
        assert torch.equal(together.counts[layer], torch.cat([run.counts[layer] for run in alone], 1))
    assert torch.equal(together.currents, torch.cat([run.currents for run in alone], 1))


def test_shares_of_the_samples_cover_them_all(monkeypatch):
    sizes, weights, (x, _) = (9, 8, 4), network((9, 8, 4), scale=2), samples(7, 9)
    expected = herding_forward(x.expand(6, 7, 9), weights, sizes, backend="cpu").currents
    run = cpu._run.serial
    monkeypatch.setattr(cpu, "_run", lambda work, *arguments: run(3, *arguments))
    assert torch.equal(herding_forward(x.expand(6, 7, 9), weights, sizes, backend="cpu").currents, expected)


# --- learning, by hand -----------------------------------------------------------------------------------------------


def learn(x, weights, sizes, n_steps, *, backend, update="fsgd", rate=1.0, potentials=None, n_samples=1):
    """Show a sample of class 0 several times. Weights change by ``rate`` a pair of spikes."""
    if potentials is None:
        potentials = torch.zeros(sum(sizes[1:-1]), dtype=torch.float64)
    labels = torch.zeros(n_samples, dtype=torch.int64)
    stats = herding_learn(
        constant([x] * n_samples, n_steps),
        labels,
        weights,
        sizes,
        potentials,
        eta=rate * n_steps**2,
        update=update,
        backend=backend,
    )
    return stats, potentials


@both
def test_fractional_updates_work_within_the_sample_and_the_gate_is_open_at_zero(backend):
    weights = flat([[0.0]])
    stats, _ = learn([1.0], weights, (1, 1), 2, backend=backend, rate=0.75)
    # step 1: the output has taken in 0, its error of -1 passes; step 2: it takes in 0.75 and fires, as wanted
    assert weights.item() == 0.75
    assert (stats.updates, dict(stats.operations)) == (
        1,
        {"forward_additions": 2, "backward_additions": 0, "weight_additions": 1},
    )
    assert float(stats.loss) == 0.5 * (0.75 / 2 - 1) ** 2


@both
def test_plain_updates_wait_for_the_end_of_the_sample(backend):
    weights = flat([[0.0]])
    stats, _ = learn([1.0], weights, (1, 1), 2, backend=backend, update="sgd", rate=0.75)
    assert weights.item() == 0.75 * 2 * 2  # two spikes, two errors
    assert stats.updates == 1


@both
@pytest.mark.parametrize("update", ["fsgd", "sgd"])
@pytest.mark.parametrize(("x", "weight"), [(1.0, -1.0), (-1.0, -0.25)], ids=["gate closed", "negative input"])
def test_nothing_is_learned_behind_a_closed_gate_or_from_negative_spikes(backend, update, x, weight):
    weights = flat([[weight]])
    learn([x], weights, (1, 1), 3, backend=backend, update=update)
    assert weights.item() == weight


@both
def test_the_column_is_read_before_it_is_updated(backend):
    weights = flat([[1.0]], [[0.25]])
    _, potentials = learn([1.0], weights, (1, 1, 1), 1, backend=backend)
    assert potentials.item() == -0.25  # of the changed column it would be -1.25, and a spike
    assert weights.tolist() == [1.0, 1.25]


@both
@pytest.mark.parametrize("update", ["fsgd", "sgd"])
def test_errors_gather_over_samples_until_they_make_a_spike(backend, update):
    weights = flat([[1.0]], [[0.25]])
    potentials = torch.zeros(1, dtype=torch.float64)
    seen = []
    for _ in range(4):
        learn([1.0], weights, (1, 1, 1), 1, backend=backend, update=update, rate=0.0, potentials=potentials)
        seen.append(potentials.item())
    assert seen == [-0.25, -0.5, 0.25, 0.0]
    _, at_once = learn([1.0], weights, (1, 1, 1), 1, backend=backend, update=update, rate=0.0, n_samples=3)
    assert at_once.item() == 0.25


@both
def test_an_error_spike_that_was_gathered_changes_the_weights_in_front(backend):
    weights = flat([[1.0]], [[0.25]])
    _, potentials = learn([1.0], weights, (1, 1, 1), 1, backend=backend, rate=0.125, n_samples=3)
    # the column grows by 1/8 with each error: -0.25, then -0.625 is a spike, 0.375; then the column is 0.5
    assert potentials.item() == pytest.approx(-0.125)
    assert weights.tolist() == [1.125, 0.625]


@both
def test_errors_are_held_until_the_step_is_over(backend):
    weights = flat([[0.75]])
    stats, _ = learn([1.0], weights, (1, 1), 1, backend=backend)
    assert (stats.updates, weights.item()) == (0, 0.75)  # its spike and the target's cancel


# --- learning, as a whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("update", ["fsgd", "sgd", "relu"])
@pytest.mark.parametrize("sizes", [(12, 4), (12, 9, 7, 4)])
def test_backends_learn_alike(update, sizes, dtype):
    x, labels = samples(12, 12, dtype=dtype)
    found = []
    for backend in ("ref", "cpu"):
        weights = network(sizes, scale=1.5, dtype=dtype)
        potentials = torch.zeros(sum(sizes[1:-1]), dtype=dtype)
        if update == "relu":
            stats = relu_learn(x, labels, weights, sizes, eta=0.1, backend=backend)
        else:
            stats = herding_learn(
                x.expand(8, 12, 12), labels, weights, sizes, potentials, eta=0.1, update=update, backend=backend
            )
        counts = herding_forward(x.expand(8, 12, 12), weights, sizes, backend=backend).counts
        found.append((weights, potentials, stats, counts))
    (weights, potentials, stats, counts), (other_weights, other_potentials, other_stats, other_counts) = found
    if update == "relu":  # sums in another order
        torch.testing.assert_close(weights, other_weights)
    else:
        assert torch.equal(weights, other_weights)
        assert torch.equal(potentials, other_potentials)
        assert all(torch.equal(one, other) for one, other in zip(counts, other_counts, strict=True))
    torch.testing.assert_close(stats.loss, other_stats.loss)
    assert (stats.updates, stats.operations) == (other_stats.updates, other_stats.operations)
    assert min(stats.operations.values()) > 0 or len(sizes) == 2


def frozen(x, labels, weights, sizes, n_steps, update, potentials=None):
    """What an update adds up to while weights stay (nearly) as they are, in units of the rate."""
    rate, changed = 2.0**-40, weights.clone()
    if potentials is None:
        potentials = torch.zeros(sum(sizes[1:-1]), dtype=torch.float64)
    herding_learn(
        x.expand(n_steps, *x.shape),
        labels,
        changed,
        sizes,
        potentials,
        eta=rate * n_steps**2,
        update=update,
        backend="cpu",
    )
    return split_weights((weights - changed) / rate, sizes)


def test_updates_add_up_to_products_of_spikes_and_errors():
    sizes, n_steps = (12, 20, 20, 4), 12
    weights, (x, labels) = network(sizes, scale=1.5), samples(1, 12, seed=1)
    run = herding_forward(x.expand(n_steps, 1, 12), weights, sizes, backend="cpu")
    fronts = [count[:, 0].cumsum(0).clamp(min=0) for count in run.counts]  # n(t) of every layer
    fractional = [torch.zeros_like(matrix) for matrix in split_weights(weights, sizes)]
    before = [torch.zeros(size, dtype=torch.float64) for size in sizes[1:]]
    for t in range(1, n_steps + 1):
        # The first t steps of longer samples are those of a sample of t steps, so plain updates tell all errors so far.
        for layer, plain in enumerate(frozen(x, labels, weights, sizes, t, "sgd")):
            front = fronts[layer][t - 1]
            errors = (front @ plain / front.square().sum()).round() if front.any() else before[layer]
            assert (plain - front[:, None] * errors).abs().max() < 1e-2
            fractional[layer] += front[:, None] * (errors - before[layer])
            before[layer] = errors
    assert all(errors.abs().sum() > 2 for errors in before)
    for found, expected in zip(frozen(x, labels, weights, sizes, n_steps, "fsgd"), fractional, strict=True):
        assert (found - expected).abs().max() < 1e-2


def test_many_steps_make_the_plain_update_the_gradient_of_the_relu_network():
    sizes, n_steps = (12, 20, 20, 4), 4000
    weights, (x, labels) = network(sizes, scale=1.5), samples(3, 12, seed=2)
    for i in range(3):
        expected = split_weights(relu_gradient(x[i : i + 1], labels[i : i + 1], weights, sizes), sizes)
        found = frozen(x[i : i + 1], labels[i : i + 1], weights, sizes, n_steps, "sgd")
        for update, gradient in zip(found, expected, strict=True):
            assert gradient.norm() > 0.01
            assert (update / n_steps**2 - gradient).norm() < 0.05 * gradient.norm()


def test_relu_learning_is_gradient_descent_a_sample_at_a_time():
    sizes, (x, labels) = (12, 9, 7, 4), samples(5, 12)
    weights = network(sizes, scale=1.5)
    expected, losses = weights.clone(), []
    stats = relu_learn(x, labels, weights, sizes, eta=0.1, backend="cpu")
    for i in range(5):
        one, label = x[i : i + 1], labels[i : i + 1]
        losses.append(relu_loss(one, label, expected, sizes))
        expected = expected - 0.1 * relu_gradient(one, label, expected, sizes)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(stats.loss, torch.stack(losses).mean())


@pytest.mark.parametrize("update", ["fsgd", "sgd"])
def test_a_batch_is_learned_as_its_samples_one_after_the_other(update):
    sizes, (x, labels) = (12, 9, 4), samples(8, 12)
    found = []
    for size in (8, 1):
        weights, potentials = network(sizes, scale=1.5), torch.zeros(9, dtype=torch.float64)
        for part, label in zip(x.split(size), labels.split(size), strict=True):
            herding_learn(
                part.expand(6, *part.shape), label, weights, sizes, potentials, eta=0.1, update=update, backend="cpu"
            )
        found.append((weights, potentials))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


# --- limits ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("weight", [2.0 * MOST_SPIKES, float("inf"), float("nan")])
def test_spikes_that_run_away_end_learning_and_are_an_error_in_a_network(backend, weight):
    weights = flat([[weight]], [[1.0]])
    stats, _ = learn([1.0], weights.clone(), (1, 1, 1), 2, backend=backend)
    assert float(stats.loss) == float("inf")
    with pytest.raises(ParameterError, match="spikes in one step"):
        herding_forward(constant([[1.0]], 2), weights, (1, 1, 1), backend=backend)


@pytest.mark.parametrize("backend", ["abacus", "cuda"])
def test_a_backend_that_is_not_there_is_an_error(backend):
    with pytest.raises(BackendError):
        herding_forward(torch.ones(1, 1, 1), torch.ones(1), (1, 1), backend=backend)
