"""What asks: predictions, exercises and their checker, the bank of questions, the cards, the mock interview."""

from fmlib.study.cards import cheat_sheet, claims_table, interview_cards
from fmlib.study.checker import check, start
from fmlib.study.interview import MockInterview
from fmlib.study.prediction import predict

__all__ = ["MockInterview", "cheat_sheet", "check", "claims_table", "interview_cards", "predict", "start"]
