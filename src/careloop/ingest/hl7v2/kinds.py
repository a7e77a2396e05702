"""HL7 v2 message types, segments and value types: which are read, and how those that are not are counted."""

from __future__ import annotations

# Types of messages that state facts about a patient, as far as they are read (HL7 v2.5.1 chapters 3, 4 and 7).
VISITS = {"ADT", "BAR"}
RESULTS = {"ORU", "OUL"}
ORDERS = {"ORM", "OML", "OMG", "OMI", "OMP"}
DRUGS = {"RDE", "RDS", "RAS", "VXU"}
READ = VISITS | RESULTS | ORDERS | DRUGS
_NOT_READ = """
ACK ADR BPS BRP BRT BTS CCF CCI CCM CCQ CCU CRM CSU CQU DBC DBU DFT DOC DSR EAC EAN EAR EHC ESR ESU INR INU LSR LSU MCF
MDM MFD MFK MFN MFQ MFR NMD NMQ NMR OMB OMD OMN OMQ OMS OPL OPR OPU ORA ORB ORD ORF ORG ORI ORL ORN ORP ORR ORS ORX OSM
OSQ OSR PEX PGL PIN PMU PPG PPP PPR PPT PPV PRR PTR QBP QCK QCN QRY QSB QSX QVR RAR RCI RCL RDR RDY REF RER RGR RGV ROR
RPA RPI RPL RPR RQA RQC RQI RQP RQQ RRA RRD RRE RRG RRI RSP RTB SCN SDN SDR SIU SLN SLR SMD SQM SQR SRM SRR SSR SSU STC
STI SUR TBR TCR TCU UDM VXQ VXR VXX
"""
MESSAGES = READ | frozenset(_NOT_READ.split())
_SEGMENTS = """
ABS ACC ADD AFF AIG AIL AIP AIS AL1 APR ARQ ARV AUT BHS BLC BLG BPO BPX BTS BTX BUI CDM CDO CER CM0 CM1 CM2 CNS CON CSP
CSR CSS CTD CTI DB1 DEV DG1 DMI DON DPS DRG DSC DSP DST ECD ECR EDU EQP EQU ERR EVN FAC FHS FT1 FTS GOL GP1 GP2 GT1 IAM
IAR IIM ILT IN1 IN2 IN3 INV IPC IPR ISD ITM IVC IVT LAN LCC LCH LDP LOC LRL MCP MFA MFE MFI MRG MSA NCK NDS NK1 NPU NSC
NST NTE OBR OBX ODS ODT OH1 OH2 OH3 OH4 OM1 OM2 OM3 OM4 OM5 OM6 OM7 OMC ORC ORG OVR PAC PCE PCR PD1 PDA PDC PEO PES PID
PKG PM1 PMT PR1 PRA PRB PRC PRD PRT PSG PSH PSL PSS PTH PV1 PV2 PYE QAK QID QPD QRD QRF QRI RCP RDF RDT REL RF1 RFI RGS
RMI RQ1 RQD RXA RXC RXD RXE RXG RXO RXR RXV SAC SCD SCH SCP SDD SFT SGH SGT SHP SID SLT SPM STF STZ TCC TCD TQ1 TQ2 TXA
UAC UB1 UB2 URD URS VAR VND
"""
SEGMENTS = frozenset(_SEGMENTS.split())
# They say something about the message or about segments beside them, and are no rows of their own.
FRAMES = frozenset(
    {"EVN", "SFT", "UAC", "ORC", "TQ1", "TQ2", "RXR", "ARV", "PRT", "DSC", "SGH", "SGT", "BHS", "BTS", "FHS", "FTS"}
)
_VALUE_TYPES = """
AD AUI CCD CCP CD CK CM CN CNN CP CSU CX DDI DIN DLD DLN DLT DR DTN EI EIP ELD ERL FC FN GTS HD ICD JCC LA1 LA2 MA MO
MOC MOP MSG NA NDL OCD OSD OSP PI PIP PL PLN PN PPN PRL PT PTA QIP QSC RCD RFR RI RMC RPL RPT SAD SCV SPD SPS SRT TN TQ
UVC VH VID VR WVI WVS XAD XCN XON XPN XTN
"""
_NO_VALUES = frozenset(_VALUE_TYPES.split())


def message_skipped(kind: str) -> str:
    """Say why a message of this type gives no events; only names of the standard are repeated."""
    return f"{kind}: not read" if kind in MESSAGES else "message of a type that HL7 does not define"


def segment_skipped(name: str) -> str:
    """Say why a segment of this name gives no events."""
    if name in SEGMENTS:
        return f"{name}: not read"
    return "Z segment: not read" if name.startswith("Z") else "segment that HL7 does not define"


def value_skipped(kind: str) -> str:
    """Say why a value of this type gives no events."""
    return f"OBX: a value of type {kind}" if kind in _NO_VALUES else "OBX: a value of a type that HL7 does not define"
