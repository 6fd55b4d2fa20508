"""Which test shows each row of docs/reliability.md: by file, or file::test.

Read by test_coverage.py, which checks that every one exists.
"""

FAULTS = {
    "1 SIGKILL during an evaluation": (
        "evals/test_storm.py",
        "evals/test_resume.py",
        "cli/test_interruption.py",
    ),
    "2 SIGKILL during a registry write": ("store/test_processes.py::test_killed_at_any_moment",),
    "4 full disk, read-only folder": (
        "evals/test_resume.py::test_a_disk_that_fails_at_the_nth_write_stops_the_run_in_one_sentence",
        "evals/test_resume.py::test_a_folder_that_cannot_be_written_is_one_sentence",
        "evidence/test_bundle.py::test_a_full_disk_loses_nothing_that_was_acknowledged",
        "lm/test_replay_store.py::test_a_write_that_fails_loses_no_answer",
    ),
    "7 a storm of 429": (
        "lm/test_retries.py::test_no_row_fails_in_a_storm_of_429",
        "lm/test_retries.py::test_retry_after_is_honoured_within_ten_per_cent",
    ),
    "8 random 5xx and timeouts": (
        "lm/test_retries.py::test_random_failures_end_as_answers_or_as_errors_with_their_cause",
        "lm/test_retries.py::test_every_client_gets_five_retries_and_no_more",
    ),
    "9 400, 401, 403, 404": (
        "lm/test_retries.py::test_what_cannot_help_is_not_tried_again",
        "lm/test_retries.py::test_a_refused_key_stops_the_provider_within_three_calls",
    ),
    "10 malformed replies": ("lm/test_malformed.py",),
    "11 clock jumps": ("reliability/test_clock.py",),
    "12 fork": ("reliability/test_fork.py", "prompts/test_serve.py::test_forks_at_any_moment_do_not_hang"),
    "13 threads and tasks": ("reliability/test_scopes.py",),
    "14 two writers": ("store/test_processes.py::test_of_many_processes_one_wins_each_step",),
    "15 first start of 32 processes": ("store/test_processes.py::test_first_use_by_many_processes_at_once",),
    "16 newer and older stores": ("store/test_schema.py",),
    "17 damage at every byte": (
        "reliability/test_damage.py",
        "evidence/test_bundle.py::test_every_flipped_bit_and_every_cut_is_found",
        "lm/test_replay_store.py::test_damage_at_every_byte_is_detected_counted_and_set_aside",
        "prompts/test_serve.py::test_a_copy_damaged_at_any_byte_is_noticed_and_set_aside",
    ),
    "19 Ctrl-C and signals": ("cli/test_interruption.py::test_a_signal_leaves_a_run_that_resume_ends",),
    "20 huge, deep, odd values": (
        "evals/test_harm.py",
        "core/test_canonical.py",
        "data/test_leakage.py::test_a_million_rows_stay_lean",
        "evals/test_memory.py",
    ),
    "21 code that raises, hangs, exits": ("evals/test_harm.py",),
    "22 nothing comparable": (
        "evals/test_gate.py::test_what_cannot_be_measured_never_passes_and_says_why",
        "evals/test_gate.py::test_a_changed_dataset_or_evaluator_does_not_reuse_rows",
        "gates/test_decide.py",
    ),
    "state machines": ("evidence/test_machine.py", "lm/test_replay_store.py", "store/test_machine.py"),
    "files people hand over": (
        "fuzz/test_fuzz.py",
        "fuzz/test_tables_of_odd_shapes.py",
        "foreign_prompts/test_formats.py::test_hostile_files_end_in_one_sentence",
    ),
}

ATTACKS = {
    "template attribute access": (
        "reliability/test_templates.py::test_refused_at_register_and_again_at_load",
    ),
    "nested format spec": (
        "reliability/test_templates.py::test_single_braces_are_text_everywhere_and_nothing_is_formatted",
        "reliability/test_templates.py::test_an_object_is_refused_and_its_text_is_not_in_the_error",
    ),
    "Jinja2": (
        "reliability/test_templates.py::test_what_would_eat_time_or_memory_is_stopped",
        "prompts/test_sandbox.py",
    ),
    "serialization injection": ("reliability/test_serialised.py",),
    "pull executes": (
        "reliability/test_templates.py::test_a_digest_that_does_not_fit_is_corrupt_and_not_served",
        "foreign_prompts/test_formats.py::test_mlflow_templates_that_reach_into_objects_are_refused",
    ),
    "path traversal": ("reliability/test_names.py",),
    "archive extraction": (
        "store/test_moving.py::test_archives_that_attack_are_refused",
        "store/test_moving.py::test_archives_that_swell_are_refused",
    ),
    "YAML": ("reliability/test_yaml.py",),
    "rebinding of the local UI": ("store/test_server.py::test_the_ui_answers_no_other_site",),
    "shell injection": (
        "reliability/test_shell_and_network.py::test_fields_reach_programs_as_one_argument_or_not_at_all",
        "reliability/test_shell_and_network.py::test_arguments_of_the_command_line",
    ),
    "SSRF": (
        "reliability/test_shell_and_network.py::test_an_address_in_data_is_never_asked",
        "lm/test_secrets.py::test_no_redirect_carries_a_model_call_to_another_host",
        "store/test_outage.py::test_artifacts_are_not_fetched_from_anywhere",
    ),
    "secrets": ("reliability/test_secrets.py", "lm/test_secrets.py"),
    "verdict injection": (
        "evaluators/test_judge.py::test_verdict_injection_does_not_raise_the_score",
        "evaluators/test_judge.py::test_an_answer_that_is_not_one_verdict_is_an_error",
    ),
    "report injection": (
        "reliability/test_reports.py",
        "report/test_hostile.py",
        "report/test_browser.py::test_hostile_data_runs_nothing",
    ),
    "pytest trust": ("reliability/test_pytest_trust.py",),
    "regex denial of service": ("evaluators/test_builtins.py::test_the_textbook_pattern_is_bounded",),
    "unsafe calls in our own code": ("reliability/test_source_lint.py",),
}
