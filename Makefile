# The commands of developers and CI. They need Python 3.11 or later and make; the rest is installed into .venv.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))

# Tests and benchmarks start many processes; without its bytecode, each would compile every module of dbctl.
unexport PYTHONDONTWRITEBYTECODE

# The tools of releases have many dependencies; the tests do not need them.
RELEASE := $(VENV)/release
RELEASE_READY := $(RELEASE)/.ready

# Of make without: all extensions, those that the copy lacks, and its folder.
EXTENSIONS = $(shell cat dbctl/extensions/names.txt)
ABSENT = $(if $(filter all,$(NAME)),$(EXTENSIONS),$(NAME))
REMAINDER = build/without/$(subst $() ,-,$(NAME))

LOWEST := build/lowest

.PHONY: audit package site demo test slow mysql postgresql retest check lint format bench without lowest torture mutants golden screens proofs docs completions smell clean

demo: $(READY) ## run the tutorial on a sample deployment
	$(BIN)/python docs/console.py show docs/tutorial/first-steps.md

test: $(READY) ## run the tests in parallel, except the slow ones
	$(BIN)/pytest --numprocesses=auto --dist=worksteal -m "not slow" $(ARGS)

slow: $(READY) ## run the slow tests in parallel: crashes, every application, the commands of the pages, properties with more examples
	$(BIN)/pytest --numprocesses=auto --dist=worksteal -m "slow or hypothesis" --hypothesis-profile=slow $(ARGS)

mysql: $(READY) build/mysql ## run the tests with mysql in their names on MySQL instead of MariaDB, except most slow ones
	PATH="$(CURDIR)/build/mysql/bin:$$PATH" DBCTL_TEST_MYSQL=mysqld $(BIN)/pytest --numprocesses=auto --dist=worksteal \
		-m "(not slow or product) and not mariadb" -k mysql $(ARGS)

postgresql: $(READY) build/postgresql ## run the tests with postgresql in their names on the newest PostgreSQL, except most slow ones
	PATH="$(CURDIR)/build/postgresql/bin:$$PATH" DBCTL_TEST_POSTGRESQL_BINARIES="$(CURDIR)/build/postgresql/bin" \
		$(BIN)/pytest --numprocesses=auto --dist=worksteal -m "not slow or product" -k postgresql $(ARGS)

build/mysql build/postgresql: tools/install_server.sh
	tools/install_server.sh $@ $(notdir $@)

retest: $(READY) ## run the tests that failed in the last run again, one after the other, if they are in at most five files
	@test "$$(grep true .pytest_cache/v/cache/lastfailed | cut -d: -f1 | sort -u | wc -l)" -le 5
	$(BIN)/pytest --last-failed --last-failed-no-failures=none -ra $(ARGS)

check: $(READY) ## check format, lint rules, types, and imports between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: check

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

without: $(READY) ## run tests of the core in a copy without extensions: make without NAME='fleet demo' ARGS=tests/render, or NAME=all
	@test -n "$(ABSENT)" -a -z "$(filter-out $(EXTENSIONS),$(ABSENT))" || { echo "NAME is no extension: $(NAME)"; exit 1; }
	rm -rf $(REMAINDER)
	mkdir -p $(REMAINDER)
	git ls-files -z --cached --others --exclude-standard -- . $(foreach name,$(ABSENT),':!dbctl/extensions/$(name)' ':!tests/extensions/$(name)' ':!docs/extensions/$(name)') \
		| tar -c --null --files-from=- | tar -x -C $(REMAINDER)
	cd $(REMAINDER) && git init --quiet && git add --all && \
		git -c user.name=without -c user.email=without@localhost commit --quiet --message "Without $(NAME)"
	cd $(REMAINDER) && PYTHONPATH=$$PWD $(CURDIR)/$(BIN)/pytest --numprocesses=auto --dist=worksteal -m "not slow" \
		--ignore=tests/extensions $(ARGS)

lowest: $(RELEASE_READY) ## run the tests with the lowest versions of the dependencies that pyproject.toml permits: make lowest ARGS=tests/render
	$(RELEASE)/bin/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(RELEASE)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[all,lancedb]'
	$(RELEASE)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --group dev
	$(LOWEST)/bin/python -m pytest --numprocesses=auto --dist=worksteal -m "not slow" $(ARGS)

torture: $(READY) ## run the crash tests many times
	DBCTL_TORTURE=$${DBCTL_TORTURE:-1} $(BIN)/pytest --numprocesses=auto --timeout=3600 tests/crash tests/extensions/*/test_crash*.py \
		tests/scenarios/test_traps.py tests/services/events tests/services/backup/test_increments_hostile.py $(ARGS)

mutants: $(READY) ## change the source at many places, one at a time, and list the changes that no test finds
	$(BIN)/python -m tools.mutation $(ARGS)

bench: $(READY) ## measure speed, compared with other tools
	$(BIN)/python -m benchmarks

golden: $(READY) ## regenerate the generated files: completions, man pages, help, schemas, reference, cached profiles
	$(BIN)/python -m tools.profiles
	$(BIN)/python -m tools.commands
	$(BIN)/python -m tools.completion.generate
	$(BIN)/python -m tools.man_pages
	$(BIN)/python -m tools.reference
	$(BIN)/python docs/documents.py

proofs: $(READY) ## replay the recordings of the built-in profiles, and write their proofs; ARGS='-k n8n' selects profiles
	DBCTL_WRITE_PROOFS=1 $(BIN)/pytest -m slow tests/extensions/drafts/learning/test_applications.py \
		tests/extensions/drafts/learning/test_django.py $(ARGS)
	$(BIN)/python -m tools.profiles

screens: $(READY) ## write the stored screens of commands, tests/render/stored
	$(BIN)/python -m tests.render.screens

docs: $(READY) ## run the commands of the pages and write their output into the pages
	$(BIN)/python docs/console.py write README.md docs/tutorial/*.md docs/how-to/*.md docs/extensions/*/*.md

audit: $(READY) ## ask OSV for known vulnerabilities of the dependencies; without an answer of its index, it states that, and succeeds
	$(BIN)/python -m tools.audit

package: $(RELEASE_READY) ## build wheel, sdist and .deb into dist, check and install them, and check the Dockerfile
	rm -rf dist
	$(RELEASE)/bin/python -m build --outdir dist
	$(RELEASE)/bin/twine check --strict dist/*
	$(RELEASE)/bin/pyroma --min 9 dist/*.tar.gz
	$(RELEASE)/bin/hadolint Dockerfile
	tools/check_wheel.sh dist/*.whl
	tools/check_image.sh
	tools/build_deb.sh dist/*.whl
	tools/check_deb.sh dist/*.deb

site: $(RELEASE_READY) ## build the documentation site into build/site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(RELEASE)/bin/mkdocs build --strict --quiet

completions: $(READY) ## generate the completion files
	$(BIN)/python -m tools.completion.generate

smell: $(READY) ## print lines and files of each package, compared with its limit, and list long modules
	$(BIN)/python -m tools.smell

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(RELEASE_READY): pyproject.toml $(READY)
	$(BIN)/python -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<27'
	$(RELEASE)/bin/python -m pip install --quiet --group release
	@touch $@

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "dbctl needs Python 3.11 or later on the PATH (or make PYTHON=/path/to/python3.11)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<27'
	$(BIN)/python -m pip install --quiet --group dev --editable .
	@touch $(READY)
