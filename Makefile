# make lab | test | prove | render | weights | site | scripts | bench | seeds | again | lint.
# Only Python 3.11 to 3.14 and make are needed; the rest goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: lab test prove render weights site scripts bench seeds again lint

lab: $(READY)
	$(BIN)/python -m fmlib lab

# Five minutes: units, every notebook as a test, one test in a browser.
test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

# Half an hour: all other browser tests, compiled models, killed processes, the resolver.
prove: $(READY)
	$(BIN)/python -m pytest -m slow tests

# All lessons, or some: make render LESSONS="00 04"
render: $(READY)
	$(BIN)/python tools/render.py $(LESSONS)

# Train what the lessons keep stored, by running them: before make render where a training changed. CHECK=--check
# writes nothing and compares.
weights: $(READY)
	$(BIN)/python tools/weights.py $(CHECK) $(LESSONS)

# Static pages in site/ whose players need neither kernel nor network.
site: $(READY)
	$(BIN)/python tools/site.py $(LESSONS)

# What the widgets send, a third smaller; after a change in fmlib/page/static/.
scripts: $(READY)
	$(BIN)/python -m pip install --quiet tdewolff-minify==2.24.12
	$(BIN)/python tools/small_scripts.py

# Beside other libraries, which are installed for it; about two hours. Writes docs/benchmarks.md.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps flow_matching==1.0.10 torchcfm==1.0.7 POT==0.9.7.post1
	$(BIN)/python -m pip install --quiet diffusers==0.42.0
	$(BIN)/python -m pytest -q -n 0 tests/benchmarks
	cd tests/benchmarks && for b in training sampling sliders lab lessons quality c2ot report; do ../../$(BIN)/python $$b.py || exit 1; done

# Every lesson with 20 other seeds, and how near its assertions come to their limits. Goes on where it was stopped.
seeds: $(READY)
	$(BIN)/python tools/seeds.py

# Every lesson once more, last one first: the same seeds must print the same numbers and draw the same pictures.
again: $(READY)
	$(BIN)/python tools/again.py $(LESSONS)

lint: $(READY)
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/lint-imports --no-logo

# Installed once; again only when one of these two files has changed.
$(READY): requirements.txt pyproject.toml
	@p=$(BIN)/python; test -x $$p || p=$(PYTHON); $$p tools/python_check.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@
