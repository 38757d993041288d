"""The HTML reports of both programs: their base template, style sheet, number formats and filmstrips."""
