"""The two wings are the same tree: same files, same names, same arguments; and nothing else passes between them."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import numpy_ref
import torch_impl
from parity_tests.components import COMPONENTS

ROOTS = {wing.__name__: Path(wing.__file__).parent for wing in (numpy_ref, torch_impl)}
TESTS = Path(__file__).parent

# Public functions without a declaration of their own, and the test file that holds them against each other instead.
ELSEWHERE = {
    "concepts.initialise.initialise": "test_concepts.py",
    "concepts.speak.decode_sentences": "test_concepts.py",
    "concepts.speak.next_concept": "test_concepts.py",
    "concepts.step.autoencoder_loss_and_grads": "test_concepts.py",
    "concepts.baselines.fit_ridge": "test_concepts.py",
    "concepts.step.placed": "test_concepts.py",
    "concepts.step.descend": "test_concepts.py",
    "concepts.step.loss_and_grads": "test_concepts.py",
    "concepts.residual_quantiser.straight_through": "test_concepts.py",
    "concepts.two_tower.memory_keys": "test_concepts.py",
    "hyperbolic.layers.lift_heads": "test_hyperbolic.py",
    "hyperbolic.points.check_points": "test_hyperbolic.py",
    "hyperbolic.radial.asinhc_slope": "test_hyperbolic.py",
    "hyperbolic.radial.sinhc_slope": "test_hyperbolic.py",
    "hyperbolic.riemannian_sgd.named": "test_hyperbolic.py",
    "hyperbolic.tangent.sum_to": "test_hyperbolic.py",
    "inference.generate.generate": "test_generate.py",
    "inference.generate.sample_of_each_row": "test_generate.py",
    "model.multi_head_attention.attended_heads": "test_hyperbolic.py",
    "model.multi_head_attention.project": "test_cache.py",
    "model.transformer.embed": "test_cache.py",
    "model.transformer.head": "test_cache.py",
    "inference.speculative.distribution": "test_speculative.py",
    "inference.speculative.speculative_generate": "test_speculative.py",
    "model.activations.erf": "test_oracles.py",
    "model.float8.Float8": "test_float8.py",
    "model.float8.float8_params": "test_float8.py",
    "model.float8.require_float8": "test_float8.py",
    "precision.Rounded": "test_precision.py",
    "precision.plain": "test_precision.py",
    "precision.stored": "test_precision.py",
    "precision.stored_like": "test_precision.py",
    "precision.stored_once": "test_precision.py",
    "model.moe.experts_loop": "test_moe_kernels.py",
    "model.moe.sorted_feed_forward": "test_moe_kernels.py",
    "model.quantization.Quantized": "test_quantization.py",
    "model.transformer.Transformer": "test_oracles.py",
    "grpo.loop.advantages": "test_rl.py",
    "grpo.loop.train_grpo": "test_rl.py",
    "ppo.loop.advantages": "test_rl.py",
    "ppo.loop.train_ppo": "test_rl.py",
    "rl.evaluate.held_out": "test_rl.py",
    "rl.experience.completions": "test_rl.py",
    "rl.experience.gather": "test_rl.py",
    "rl.loop.begin": "test_rl.py",
    "rl.loop.iterate": "test_rl.py",
    "rl.loop.kl_weights": "test_rl.py",
    "rl.loop.learnable": "test_rl.py",
    "rl.loop.output_of": "test_rl.py",
    "rl.loop.reinforce": "test_rl.py",
    "rl.loop.resumed": "test_rl.py",
    "rl.rollout.rollout": "test_rl.py",
    "rl.step.learn": "test_rl.py",
    "rl.step.policy_gradients": "test_rl.py",
    "sft.evaluate.conversation_losses": "test_sft.py",
    "sft.loop.fine_tune": "test_sft.py",
    "sft.loop.model_weights": "test_sft.py",
    "sft.lora.adapt": "test_lora.py",
    "training.checkpoint.load": "test_checkpoint.py",
    "training.checkpoint.save": "test_checkpoint.py",
    "training.checkpoint.snapshot": "test_saving.py",
    "patching.model.byte_model": "test_patching.py",
    "patching.step.loss_and_grads": "test_patching.py",
    "hyperbolic.trainer.Trainer": "test_graph_embedding.py",
    "patching.trainer.Trainer": "test_tokenizations.py",
    "patching.step.total_nats": "test_patching.py",
    "patching.step.train_step": "test_patching.py",
    "context.evaluate.measure": "test_context.py",
    "context.loop.train_senses": "test_context.py",
    "context.step.loss_and_grads": "test_context.py",
    "context.step.train_step": "test_context.py",
    "thoughts.evaluate.held_out": "test_thoughts.py",
    "thoughts.evaluate.by_width": "test_thoughts.py",
    "thoughts.evaluate.searched": "test_thoughts.py",
    "thoughts.evaluate.solved": "test_thoughts.py",
    "thoughts.loop.train_units": "test_thoughts.py",
    "thoughts.step.loss_and_grads": "test_thoughts.py",
    "thoughts.step.train_step": "test_thoughts.py",
    "thoughts.task.practice": "test_thoughts.py",
    "tokenizers.bpe.MergeCache": "test_kinds.py",
    "tokenizers.bpe.PieceCache": "test_kinds.py",
    "tokenizers.bpe.batches": "test_kinds.py",
    "tokenizers.bpe.count_pieces": "test_kinds.py",
    "tokenizers.bpe.join_pairs": "test_kinds.py",
    "tokenizers.bpe.merged": "test_kinds.py",
    "tokenizers.bpe.merges_of": "test_kinds.py",
    "tokenizers.segmentation.Lattice": "test_kinds.py",
    "tokenizers.segmentation.best": "test_kinds.py",
    "tokenizers.segmentation.drawn": "test_kinds.py",
    "training.muon.orthogonalise_": "test_distributed.py",
    "training.evaluate.evaluate": "test_properties.py",
    "dpo.loop.evaluate_pairs": "test_reward.py",
    "dpo.loop.train_dpo": "test_reward.py",
    "dpo.step.dpo_loss_and_grads": "test_reward.py",
    "dpo.step.dpo_step": "test_reward.py",
    "dpo.step.pair_logprobs": "test_reward.py",
    "dpo.step.pair_loss": "test_preference_losses.py",
    "reward.evaluation.evaluate_comparisons": "test_reward.py",
    "reward.evaluation.judge": "test_reward.py",
    "reward.loop.train_reward": "test_reward.py",
    "reward.step.comparison_metrics": "test_preference_losses.py",
    "reward.step.comparison_scores": "test_reward.py",
    "reward.step.preference_loss": "test_preference_losses.py",
    "reward.step.reward_loss_and_grads": "test_reward.py",
    "reward.step.reward_step": "test_reward.py",
    "training.accumulation.accumulated": "test_reward.py",
    "training.loop.resumed": "test_reward.py",
    "training.loop.train": "test_loop.py",
    "training.step.apply_gradients": "test_step.py",
    "training.step.loss_scale": "test_step.py",
    "training.step.loss_denominator": "test_step.py",
    "training.step.loss_share": "test_distributed.py",
    "training.step.routed_tokens": "test_distributed.py",
    "training.step.train_step": "test_properties.py",
}
# Nothing to compare: each wing has devices and formats of its own.
NO_COUNTERPART = {
    "device.choose_device", "device.choose_dtype", "device.product_speed", "model.positions.config_frequencies",
    "dpo.loop.frozen_logprobs", "training.step.compute_dtype", "training.loop.device_name", "training.loop.master_dtype",
}  # fmt: skip


def module_paths(wing):
    """ "model.norms" for every file of a wing, packages and the command line left out."""
    root = ROOTS[wing]
    files = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    return sorted(".".join(path.parts) for path in files if not path.name.startswith("__"))


def tree(wing, path):
    return ast.parse((ROOTS[wing] / (path.replace(".", "/") + ".py")).read_text())


def constant(wing, path, name):
    """The value of a top-level ``NAME = literal``; None where there is none."""
    for node in tree(wing, path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def public(wing, path):
    """{name: object} of what a module itself makes public: functions, classes and constants, no imports."""
    module = import_module(f"{wing}.{path}")
    names = set()
    for node in tree(wing, path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    marks = {"TORCH_ONLY", "NUMPY_ONLY", "TORCH_EXTRA_ARGUMENTS", "DEFINITION", "TORCH_ONLY_FILE"}
    return {name: getattr(module, name) for name in sorted(names - marks) if not name.startswith("_")}


def imports(wing, path):
    """Every module that a file imports, anywhere in it: for ``from a import b`` both a and a.b."""
    for node in ast.walk(tree(wing, path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{wing}.{path} imports relatively; write the whole path"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


DEFINITIONS = {path for path in module_paths("numpy_ref") if constant("numpy_ref", path, "DEFINITION")}
SHARED = [path for path in module_paths("numpy_ref") if path not in DEFINITIONS]


ONLY_TORCH = {path for path in module_paths("torch_impl") if constant("torch_impl", path, "TORCH_ONLY_FILE")}


def test_both_wings_have_the_same_files():
    numpy_files, torch_files = set(SHARED), set(module_paths("torch_impl")) - ONLY_TORCH
    missing, extra = sorted(numpy_files - torch_files), sorted(torch_files - numpy_files)
    assert not missing, (
        f"numpy_ref has {missing}, torch_impl has not; write them, or a DEFINITION line if they compute nothing"
    )
    assert not extra, f"torch_impl has {extra}, numpy_ref has not"


def test_files_of_one_wing_say_why():
    for path in ONLY_TORCH:
        assert len(constant("torch_impl", path, "TORCH_ONLY_FILE")) > 10, f"torch_impl.{path}: say why"
        assert path not in module_paths("numpy_ref"), f"{path} is in both wings: drop its TORCH_ONLY_FILE"


def test_definitions_are_written_once():
    for path in DEFINITIONS:
        reason = constant("numpy_ref", path, "DEFINITION")
        assert isinstance(reason, str) and len(reason) > 10, (
            f"numpy_ref.{path}: DEFINITION must say why it is written once"
        )
    for path in module_paths("torch_impl"):
        assert path not in DEFINITIONS, f"torch_impl.{path} exists although numpy_ref.{path} is a definition"


@pytest.mark.parametrize("path", SHARED)
def test_public_names_are_the_same(path):
    numpy_names, torch_names = set(public("numpy_ref", path)), set(public("torch_impl", path))
    numpy_only = set(constant("numpy_ref", path, "NUMPY_ONLY") or ())
    torch_only = set(constant("torch_impl", path, "TORCH_ONLY") or ())
    assert numpy_names - torch_names == numpy_only, f"{path}: only in numpy_ref are {sorted(numpy_names - torch_names)}"
    assert torch_names - numpy_names == torch_only, (
        f"{path}: only in torch_impl are {sorted(torch_names - numpy_names)}"
    )


@pytest.mark.parametrize("path", SHARED)
def test_signatures_are_the_same(path):
    extra = set(constant("torch_impl", path, "TORCH_EXTRA_ARGUMENTS") or ())
    numpy_names, torch_names = public("numpy_ref", path), public("torch_impl", path)
    used = set()
    for name, numpy_object, torch_object in (
        (n, o, torch_names[n]) for n, o in numpy_names.items() if n in torch_names
    ):
        for label, one, other in callables(name, numpy_object, torch_object):
            wanted, found = arguments(one), arguments(other)
            used |= {argument for argument, *_ in found} & extra - {argument for argument, *_ in wanted}
            found = [parameter for parameter in found if parameter in wanted or parameter[0] not in extra]
            assert found == wanted, f"{path}.{label}: torch_impl takes {found}, numpy_ref {wanted}"
        if not callable(numpy_object):
            assert numpy_object == torch_object, (
                f"{path}.{name} is {torch_object!r} in torch_impl, {numpy_object!r} in numpy_ref"
            )
    assert used == extra, f"torch_impl.{path}: TORCH_EXTRA_ARGUMENTS names {sorted(extra - used)}, which nothing takes"


def callables(name, one, other):
    """(label, function, function) of a public object, or of the public methods of a class."""
    if inspect.isclass(one):
        methods = {key for kind in (one, other) for key in vars(kind) if not key.startswith("_") or key == "__init__"}
        methods = sorted(key for key in methods if callable(getattr(one, key)))  # properties take nothing
        return [(f"{name}.{key}", getattr(one, key), getattr(other, key)) for key in methods]
    return [(name, one, other)] if callable(one) else []


def arguments(function):
    """[(name, default)] in order; number formats are compared by name, as each wing has its own."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind.name, "none" if p.default is p.empty else format_name(p.default)) for p in found]


def format_name(value):
    text = getattr(value, "__name__", None) or str(value)
    return text.removeprefix("torch.")


def test_torch_imports_definitions_only():
    for path in module_paths("torch_impl"):
        for name in imports("torch_impl", path):
            if name == "numpy_ref" or name.startswith("numpy_ref."):
                inner = name.partition(".")[2]
                owner = inner if inner in DEFINITIONS else inner.rpartition(".")[0]
                package = (ROOTS["numpy_ref"] / inner.replace(".", "/")).is_dir()  # "from numpy_ref.data import corpus"
                fine = owner in DEFINITIONS or package
                assert fine, (
                    f"torch_impl.{path} imports {name}, which is no definition: the wings must not share numerics"
                )


def test_numpy_never_imports_torch():
    for path in [*module_paths("numpy_ref"), "__init__", "__main__"]:
        for name in imports("numpy_ref", path):
            assert name.partition(".")[0] not in ("torch", "torch_impl"), f"numpy_ref.{path} imports {name}"


def test_numpy_wing_works_without_torch():
    """In a process in which torch can't be imported, every module of numpy_ref can."""
    names = [f"numpy_ref.{path}" for path in module_paths("numpy_ref")]
    code = f"import sys, importlib; sys.modules['torch'] = None\nfor name in {names}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr


def declared():
    """ "model.norms.layer_norm" for both functions of every declaration."""
    return {
        f"{function.__module__.partition('.')[2]}.{function.__name__}"
        for component in COMPONENTS
        for function in (component.numpy, component.torch)
    }


def components_of(path):
    """Public functions and classes of a component module, on either side."""
    found = public("numpy_ref", path) | public("torch_impl", path)
    return {f"{path}.{name}" for name, value in found.items() if callable(value)}


def test_every_component_has_a_declaration():
    everything = set().union(*(components_of(path) for path in SHARED))
    uncovered = sorted(everything - declared() - set(ELSEWHERE) - NO_COUNTERPART)
    assert not uncovered, f"without a declaration in parity_tests/components, or an entry in ELSEWHERE: {uncovered}"
    listed = set(ELSEWHERE) | NO_COUNTERPART
    stale = sorted(listed & declared() | listed - everything)
    assert not stale, f"the lists above name {stale}, which are declared or do not exist"


def test_what_is_tested_elsewhere_is():
    for name, file in ELSEWHERE.items():
        assert (TESTS / file).exists(), f"{name} is said to be tested in {file}, which does not exist"
        assert name.rpartition(".")[2] in (TESTS / file).read_text(), f"{file} does not mention {name}"


def test_declarations_carry_the_stem_of_their_file():
    """Everything about a component is found by its name."""
    stems = {part for path in SHARED for part in path.split(".")}  # a file, or a folder of a few small ones
    for file in (TESTS / "components").glob("*.py"):
        if file.stem not in ("__init__", "sliding_window"):
            assert file.stem in stems, f"parity_tests/components/{file.name} has no file of that name in the wings"
    for component in COMPONENTS:
        assert component.numpy.__module__.startswith("numpy_ref."), f"{component}: {component.numpy.__module__}"
        assert component.torch.__module__.startswith("torch_impl."), f"{component}: {component.torch.__module__}"
