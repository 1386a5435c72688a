"""Settings of apps in ``.env``, PHP, Python and JSON files."""

from __future__ import annotations

import pytest

from dbctl.files import app_settings


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("export A = 1 ", {"A": "1"}),
        ("A: yaml", {"A": "yaml"}),
        ("# A=1\n\nno line\nB=2", {"B": "2"}),
        ("A=plain # a comment", {"A": "plain"}),
        ("A=cut#here", {"A": "cut"}),
        ("A='kept # here'", {"A": "kept # here"}),
        ('A="p@ss/w#rd" # why', {"A": "p@ss/w#rd"}),
        ('A=`it\'s "so"`', {"A": 'it\'s "so"'}),
        ('A="one\\ntwo"', {"A": "one\ntwo"}),
        ("A='one\\ntwo'", {"A": "one\\ntwo"}),
        ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A=''", {"A": ""}),
        ("A=a=b=c", {"A": "a=b=c"}),
        ("A='unclosed", {"A": "'unclosed"}),
        ("A=${B}", {"A": "${B}"}),
        ("", {}),
    ],
)
def test_dotenv_file_is_parsed_like_node(text, variables):
    assert app_settings.parse_settings(".env", text) == variables


PHP = r"""<?php
/* define('COMMENT', 'no'); */ // define('COMMENT', 'no');
# $comment = 'no';
define( 'DB_NAME', 'wordpress' );
define("DB_PASSWORD", "a\"b\$c\\");   define('KEY', 'it\'s \\ \n');
DEFINE ( 'PORT' , 3306 ) ;
define('CALL', getenv_docker('VARIABLE', 'default'));
define('JOINED', 'a' . 'b');
define('INTERPOLATED', "a$b");
$table_prefix = 'wp_';
$wgDBserver = "db.example:3307";
$CONFIG = array ('dbtype' => 'pgsql', "dbport" => '', 'debug' => true, 'nested' => ['dbhost' => '/run/postgresql'],
  'text' => 'define("IN_TEXT", "no")',
);
$last = 1; $last = 'two';
"""


def test_php_literals_are_settings():
    assert app_settings.parse_settings("config.php", PHP) == {
        "DB_NAME": "wordpress",
        "DB_PASSWORD": 'a"b$c\\',
        "KEY": "it's \\ \\n",
        "PORT": "3306",
        "table_prefix": "wp_",
        "wgDBserver": "db.example:3307",
        "dbtype": "pgsql",
        "dbport": "",
        "debug": "true",
        "dbhost": "/run/postgresql",
        "text": 'define("IN_TEXT", "no")',
        "last": "two",
    }


def test_python_literals_are_settings_and_no_code_runs(tmp_path):
    text = f"""
import os
open({str(tmp_path / "ran")!r}, "w")
DATABASES = {{"default": {{"ENGINE": "django.db.backends.mysql", "PORT": 3306, "PASSWORD": os.environ["X"], 5: [1]}}}}
A = B = "both"
if True:
    A = "in a branch"
"""
    assert app_settings.parse_settings("mysite/settings.py", text) == {
        "DATABASES__default__ENGINE": "django.db.backends.mysql",
        "DATABASES__default__PORT": "3306",
        "A": "both",
        "B": "both",
    }
    assert not (tmp_path / "ran").exists()


def test_json_keys_are_settings():
    text = '{"database": {"client": "mysql", "connection": {"port": 3306, "none": null}}, "list": ["a"]}'
    assert app_settings.parse_settings("config.json", text) == {
        "database__client": "mysql",
        "database__connection__port": "3306",
    }


@pytest.mark.parametrize("name", ["a.json", "a.py"])
@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\0"])
def test_invalid_file_is_reported(name, text):
    with pytest.raises(ValueError, match="valid"):
        app_settings.parse_settings(name, text)


@pytest.mark.parametrize(
    "text", ["'" * 20_001, "define('" * 20_000, "/*" * 20_000, "$a = " * 20_000, "'\\" * 20_000]
)
def test_hostile_php_is_parsed_in_linear_time(text):
    assert app_settings.parse_settings("a.php", text) == {}
