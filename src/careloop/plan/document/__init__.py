"""One patient's plan put together and handed over: prediction, options, safety and lifestyle, as data and as FHIR."""
