"""The bill of materials, the licences and the advisories say what is so (scripts/supply_chain.py)."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import supply_chain  # noqa: E402


class Versions(unittest.TestCase):
    def test_requirements_are_read_as_cargo_does(self):
        for found, requirement, expected in [
            ("1.2.3", ">= 1.2.3", True),
            ("1.2.2", ">= 1.2.3", False),
            ("1.2.3-rc.1", ">= 1.2.3", False),
            ("1.2.3-rc.2", "> 1.2.3-rc.1", True),
            ("1.2.3-rc.10", "> 1.2.3-rc.9", True),
            ("0.3.27", "^0.3.24", True),
            ("0.4.0", "^0.3.24", False),
            ("0.4.0-alpha", "^0.3.24", False),
            ("1.9.0", "^1.2", True),
            ("2.0.0", "^1.2", False),
            ("0.0.3", "^0.0.3", True),
            ("0.0.4", "^0.0.3", False),
            ("0.9.9", "^0", True),
            ("1.2.9", "~1.2.3", True),
            ("1.3.0", "~1.2.3", False),
            ("1.9.0", "~1", True),
            ("1.5.0", ">= 1.2, < 1.5", False),
            ("1.4.9", ">= 1.2, < 1.5", True),
            ("1.2.3+build", "= 1.2.3", True),
            ("1.2.4", "=1.2", True),
            ("1.3.0", "=1.2", False),
            ("1.4.0", "1.2", True),
        ]:
            with self.subTest(found=found, requirement=requirement):
                self.assertEqual(supply_chain.meets(found, requirement), expected)

    def test_what_is_no_version_is_an_error(self):
        for text in ["", "one", "1.2.3.4"]:
            with self.assertRaises(supply_chain.Unusable):
                supply_chain.version(text)


class Advisories(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "crates").mkdir()

    def advisory(self, crate, number, versions, more=""):
        folder = self.folder / "crates" / crate
        folder.mkdir(exist_ok=True)
        text = f'```toml\n[advisory]\nid = "{number}"\npackage = "{crate}"\n{more}\n[versions]\n{versions}\n```\n\n# T\n'
        (folder / f"{number}.md").write_text(text)

    def check(self, *crates, ignored=None):
        return supply_chain.advisories(self.folder, crates, ignored or {})

    def test_a_flawed_version_is_found_and_a_mended_one_is_not(self):
        self.advisory("parser", "RUSTSEC-2026-0001", 'patched = ["^1.4.2", ">= 2.0.1"]\nunaffected = ["< 1.2"]')
        self.assertEqual(self.check(("parser", "1.4.1")), (["parser 1.4.1: RUSTSEC-2026-0001"], [], 1))
        self.assertEqual(self.check(("parser", "2.0.0"))[0], ["parser 2.0.0: RUSTSEC-2026-0001"])
        for safe in ["1.4.2", "1.1.9", "2.0.1"]:
            self.assertEqual(self.check(("parser", safe))[0], [], safe)
        self.assertEqual(self.check(("another", "1.4.1")), ([], [], 0))

    def test_an_unmaintained_crate_is_found_unless_it_is_ignored_and_a_withdrawn_advisory_is_none(self):
        self.advisory("old", "RUSTSEC-2026-0002", "patched = []", 'informational = "unmaintained"')
        self.advisory("fine", "RUSTSEC-2026-0003", "patched = []", 'withdrawn = "2026-01-01"')
        crates = [("old", "1.0.0"), ("fine", "1.0.0")]
        self.assertEqual(self.check(*crates)[0], ["old 1.0.0: RUSTSEC-2026-0002 (unmaintained)"])
        found, known, _ = self.check(*crates, ignored={"RUSTSEC-2026-0002": "no flaw known"})
        self.assertEqual((found, known), ([], ["old 1.0.0: RUSTSEC-2026-0002 (unmaintained): no flaw known"]))

    def test_a_folder_without_advisories_is_an_error(self):
        with self.assertRaises(supply_chain.Unusable):
            supply_chain.advisories(self.folder / "nowhere", [], {})


class Licences(unittest.TestCase):
    def test_expressions_are_read(self):
        allowed = {"MIT", "Apache-2.0", "ISC"}
        for text, expected in [
            ("MIT", True),
            ("GPL-3.0", False),
            ("MIT OR GPL-3.0", True),
            ("MIT AND GPL-3.0", False),
            ("(MIT OR Apache-2.0) AND ISC", True),
            ("GPL-2.0 OR (MIT AND MPL-2.0)", False),
            ("Apache-2.0 WITH LLVM-exception", True),
            ("GPL-3.0 OR MIT AND ISC", True),
            ("NOASSERTION", False),
        ]:
            with self.subTest(text=text):
                self.assertEqual(supply_chain.is_allowed(text, allowed), expected)

    def test_a_broken_expression_is_an_error(self):
        for text in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "AND"]:
            with self.assertRaises(supply_chain.Unusable):
                supply_chain.is_allowed(text, {"MIT"})

    def test_a_crate_from_elsewhere_is_found(self):
        head = '[[package]]\nname = "a"\nversion = "1.0.0"\n'
        one, other = "registry+https://one.example", "registry+https://other.example"
        pinned = 'checksum = "00"\n'
        for lock, expected in [
            (head + f'source = "{one}"\n' + pinned, 0),
            (head, 0),
            (head + f'source = "{one}"\n', 1),
            (head + 'source = "git+https://example.com/a?rev=1#1"\n', 1),
            (head + f'source = "{one}"\n' + pinned + head + f'source = "{other}"\n' + pinned, 1),
        ]:
            with self.subTest(lock=lock):
                self.assertEqual(len(supply_chain.foreign_sources(lock)), expected)

    def test_every_linked_crate_is_allowed_and_named_with_its_text(self):
        self.assertEqual(supply_chain.policy(), [])
        text = supply_chain.licences()
        for name in ["pingora-core 0.9.", "rustls 0.23.", "ort 2.0.0-rc.", "redb 4."]:
            self.assertIn(f"\n{name}", text)
        self.assertIn("Permission is hereby granted, free of charge", text)
        self.assertNotIn("\ncriterion ", text, "what only tests use is not linked")


class BillOfMaterials(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bill = supply_chain.sbom()

    def test_it_is_valid_by_the_schema(self):
        # From PyPI: cyclonedx-python-lib with its schemas (tests/deploy/requirements.txt).
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        validator = JsonStrictValidator(SchemaVersion.V1_6)
        self.assertIsNone(validator.validate_str(json.dumps(self.bill)))
        broken = {**self.bill, "components": [{"name": "without a type"}]}
        self.assertIsNotNone(validator.validate_str(json.dumps(broken)), "the validator sees nothing")

    def test_it_names_what_is_linked_and_what_is_beside(self):
        components = {entry["name"]: entry for entry in self.bill["components"]}
        locked = supply_chain.locked()
        for name in ["pingora-core", "rustls", "redis"]:
            entry = components[name]
            self.assertEqual(entry["hashes"][0]["content"], locked[(name, entry["version"])])
        self.assertEqual(components["onnxruntime"]["licenses"], [{"expression": "MIT"}])
        kinds = [entry["name"] for entry in self.bill["components"] if entry["type"] == "machine-learning-model"]
        self.assertEqual(kinds, ["riskgate-login", "riskgate-token", "riskgate-m2m"])
        self.assertNotIn("criterion", components)
        references = {entry["ref"] for entry in self.bill["dependencies"]}
        for entry in self.bill["dependencies"]:
            self.assertLessEqual(set(entry["dependsOn"]), references)

    def test_it_is_the_same_each_time(self):
        self.assertEqual(self.bill, supply_chain.sbom())

    def test_packages_of_an_image_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "libc6").write_text("Package: libc6\nVersion: 2.36-9+deb12u10\nArchitecture: amd64\n")
            (entry,) = supply_chain.debian_packages(folder)
        self.assertEqual(entry["purl"], "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64")


if __name__ == "__main__":
    unittest.main()
