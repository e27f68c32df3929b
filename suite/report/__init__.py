"""How a run is told to people and to machines: HTML, terminal, JUnit.

Everything here is pure: a verdict, measured series and the model go in, text comes out. The package
judges nothing: what a cell or a check is worth was decided by `stages.check`, and a verdict that is
missing or not understood is shown as unknown.

    verdict.json --reading.load--> Run ---+--> html.render   (with Series and Stages)
    history      --series.summarize--> Series-'  text.report    terminal
                                           +--> junit.render   CI
"""
