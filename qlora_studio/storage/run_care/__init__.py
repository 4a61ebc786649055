"""What a person does with runs: names, disk use, the trash, import, a pack for a report, reading them to compare."""
