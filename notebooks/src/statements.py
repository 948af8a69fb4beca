# %% [markdown]
# # Appendix · Statements you will meet
#
# You will meet these statements in interview sheets and blog posts. Here is each of them, what holds instead, and where that is shown. (They come from the interview sheet that these lessons began with.)
#
# **You will be able to**
#
# 1. look up a statement that you have read elsewhere, and see whether it holds;
# 2. go to the cell or the test that shows it.
#
# *Time:* for looking up. It runs in 7 seconds.
#
# **✓** right. **◐** right with a condition that is missing. **✗** wrong. **M** right, but ascribed to the wrong paper or method. "§" is the section of the sheet.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from fmlib.study import claims_table
from fmlib.study.bank import VERDICTS, claims

counts = {mark: sum(VERDICTS[c.verdict] == mark for c in claims().values()) for mark in VERDICTS.values()}
print(f"{len(claims())} claims: " + ", ".join(f"{n} {mark}" for mark, n in counts.items()))

# %% [markdown]
# ## The ledger

# %% jupyter={"source_hidden": true} tags=["hide-input"]
claims_table()
