"""The command line. Nothing heavy is imported until a command runs: help must come at once."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

from extrapo import __version__
from extrapo.cli.brief import ALL, telling
from extrapo.cli.flags import FIRST, default_shown
from extrapo.cli.mistakes import explained
from extrapo.errors import MachineError, UserError, misplacement, refusal, unheeded

#: How a refusal of a full disk begins, and what helps.
FULL, ELSEWHERE = os.strerror(errno.ENOSPC), "; free some, or put --root, EXTRAPO_CACHE and TMPDIR on another disk"

# Idle threads of libgomp wait busily for some milliseconds, on the cores where attention's own threads would compute.
# So many turns, some hundredths of that, bridge the gaps between the small operations of decoding, and no more.
# It is read when PyTorch is loaded; a library would come too late, and should not decide it.
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

app = App(
    name="extrapo",
    version=__version__,
    help="Length extrapolation by positional encoding: train, measure past the training length, look.",
    help_format="plaintext",
    result_action="return_value",
    # It would end without a word; `run` says what happened.
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(consume_multiple=(1, None), negative_iterable=(), show_default=default_shown),
    # Help shows these before all others; those of the other headings say so.
    group_parameters=FIRST,
    # None: what no command line can hold. An empty text would be one, and vanish where it is typed.
    end_of_options_delimiter="\0",
)
#: Command -> where it lives and what the list of commands says of it; it is imported when it is called.
COMMANDS = {
    "fit": ("fit:fit", "Train a model, measure its perplexity past the training length, record all of it in MLflow."),
    "evaluate": ("evaluate:evaluate", "Measure the perplexity of a trained model at any lengths."),
    "compare": ("compare:compare", "Curves of several runs over seeds as one figure and table, and their differences."),
    "theory": ("theory:theory", "Say where the papers' conditions hold, of an encoding or a trained run, in numbers."),
    "probe": ("probe:probe", "Ask a trained model for what stands far back in a text, or the questions of a file."),
    "bench": ("bench:bench", "Time attention and training steps beside plain causal attention, and their memory."),
    "generate": ("generate:generate", "Write text with a trained model, as it comes."),
    "report": ("report:report", "Write what came of some runs, or of a sweep, as one page, Markdown and LaTeX."),
    "export": ("export:export", "Write a trained model as a folder that transformers opens."),
    "data": ("data:data", "Prepare text as token shards, and list, show and verify what is prepared."),
    "list": ("catalogue:catalogue", "List the encodings, the kernels, the corpora, or the recorded runs."),
    "show": ("show:show", "Draw an encoding as it starts, or the biases of a trained model."),
    "sweep": (
        "sweep:sweep",
        "Run a grid or a search of trainings, of which nothing can be lost; the same command goes on.",
    ),
    "deliver": ("deliver:deliver", "Send what runs could not record, because the tracking store was away."),
    "doctor": ("doctor:doctor", "Say what works on this machine, and why the rest does not."),
    "ui": ("ui:ui", "Serve the recorded runs on 127.0.0.1 and print the links to their curves and heatmaps."),
}
for command, (place, summary) in COMMANDS.items():
    app.command(f"extrapo.cli.{place}", name=command, help=summary)
app.register_install_completion_command(help="Teach the Tab key of this shell the commands and their flags.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 2 for a user's mistake, 1 for the machine's fault, 130 after Ctrl-C."""
    from extrapo.files import cache_folder

    # PyTorch's own place for compiled code has a name that anybody can guess, in a folder that all share.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", own_folder(cache_folder() / "inductor"))
    # Nobody opens a window; a name that is none would end a training in its first picture.
    os.environ["MPLBACKEND"] = "agg"
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def own_folder(wanted: Path) -> str:
    """The folder, this user's alone; a temporary one that goes with this process where it is not, or cannot be."""
    from extrapo.files import private_folder

    try:
        return str(private_folder(wanted))
    except OSError:
        import atexit
        import shutil
        import tempfile

        own = tempfile.mkdtemp(prefix="extrapo-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own


def run(arguments: Sequence[str]) -> int:
    """Run a command; the exit code. A failure is one line on stderr."""
    try:
        words = ["--help" if word == ALL else word for word in arguments]
        with telling(ALL in arguments):
            code = app(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (CycloptsError, ValidationError, UserError) as mistake:
        return fail(explained(mistake, app, arguments), 2)
    except MachineError as fault:
        return fail(str(fault), 1)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Warning as fault:
        # Libraries warn of one another; only where somebody asks for it a warning ends what it is about.
        return fail(f"{type(fault).__name__}: {fault} (PYTHONWARNINGS makes an error of it: unset it)", 1)
    except Exception as fault:
        wrong = misplacement(fault) or unheeded(fault)
        if wrong is not None:
            return fail(wrong, 2)
        reason = refusal(fault)
        if reason is None:
            raise
        return fail(reason + ELSEWHERE if reason.startswith(FULL) else reason, 1)


def fail(message: str, code: int) -> int:
    """Print the one line of a failure."""
    from extrapo.harmless import harmless

    line = harmless(" ".join(message.split()))
    print(f"extrapo: error: {line}", file=sys.stderr)
    return code
